"""The page: one HTML file with tables, figures, run card and question browser, readable without server or network."""
