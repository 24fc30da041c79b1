"""What `thinktwice simulate` shows: tables, and a page with pictures."""
