"""One diagnosis, told as JSON, as text and as a page with pictures."""
