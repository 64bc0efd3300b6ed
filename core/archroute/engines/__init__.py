"""The models that decide. Importing this imports none of them."""
