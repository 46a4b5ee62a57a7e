"""Service keys of tests: the same in each process that collects them."""

KEY = "embk_XfNtvgsImpCgpKXPB6bmviwRXdc7ohrLPNdPLTMCXg03XLyxk"
OTHER_KEY = "embk_EigPoyydkQDE9B1FKlyqJBf2EPkKI5vMgqA9rN5u84F07GFc3"
