"""Models of other systems: files read without running what they contain, and files written for them."""
