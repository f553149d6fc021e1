"""The web pages that operators watch: rendered here, over the one door, with a little script of our
own that keeps them live. Without script they still show and still take orders."""
