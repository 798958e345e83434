"""What is optimised, as pure functions: advantages, weights of tokens, losses. The tables that a recipe chooses from.

A function that is added to a table here can be named in a recipe: the recipe's choices are the table's keys. Nothing
here imports torch when it is imported, so that recipes are read without it.
"""
