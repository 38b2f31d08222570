"""The gallery on the web: an HTTP interface, and a page on which people search, compare and understand."""
