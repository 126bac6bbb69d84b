"""Where a lesion may be in another scan: the search, its candidates, and what is said of them."""
