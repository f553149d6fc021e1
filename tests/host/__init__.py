"""Tests of furlough-host: the file as it is copied to hosts, run as a program."""
