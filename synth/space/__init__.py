"""The networks that can come out of a prototype: the elastic parent, what is decided on it, what each network costs."""
