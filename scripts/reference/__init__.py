"""The reference below `docs/reference`, kept equal to the code: `python -m scripts.reference`.

A page is written by hand, except for its blocks, between `<!-- begin: NAME -->` and
`<!-- end: NAME -->`. What the code knows (names, types, defaults, transitions) is put there by this
program; the last columns of most tables are written by hand and are kept. The tests below
`tests/docs` fail when a page is not what this program would write, or has an empty cell.
"""
