"""From whatever a user hands over to checked pixels of one field.

Other rooms use `decoding` (bytes -> RGB -> squeezed), `quality`, `nuclei`, `perturbations` and
`synthetic`. NumPy, Pillow and SciPy only; nothing here knows a network.
"""
