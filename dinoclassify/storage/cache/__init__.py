"""The user's cache: costly files, each made once, kept in folders that vouch for them, and removed when unused."""
