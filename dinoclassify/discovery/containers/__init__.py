"""Containers of images: archives and tables -> the `Source` of each image in them."""
