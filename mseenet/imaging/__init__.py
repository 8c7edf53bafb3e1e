"""From whatever a user hands over to checked pixels of one field.

Other rooms use `decoding` (bytes -> RGB -> squeezed, and the errors of images that cannot be
used), `formats` (which file is an image), `quality`, `nuclei`, `perturbations` and
`synthetic`. `tiff` and `pixels` serve `decoding`. Nothing here knows a network.
"""
