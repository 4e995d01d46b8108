"""What lies between the network and the page: which requests are answered, from which visitor, and how much of each.

`visit` finds out who asks, `guard` which pages may ask, `intake` how much comes in; `pending`, `sessions` and `scratch`
limit what is kept, and `shares` divides that among the visitors of a public server.
"""
