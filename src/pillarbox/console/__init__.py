"""The operator's verbs (operations.py), one implementation for the web pages and the command line."""
