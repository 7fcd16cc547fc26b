"""Speed of this library, compared with the approach of the reference implementation."""
