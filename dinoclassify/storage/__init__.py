"""Reading bytes and writing whole files: on this machine, and in object stores and on the web (`remote`)."""
