"""The book itself: from source to notebooks, executed, checked, and readable."""
