"""Every complete reply of every judge, in SQLite, under the hash of its request."""
