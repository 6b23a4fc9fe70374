"""The scripts of ours that run inside a Zope: they belong to the Zope product.

The library itself imports no Zope.  It only finds these files, and starts them in a
process of their own.
"""

from importlib.util import find_spec
from pathlib import Path

from tidstorage.errors import PartMissing

_PRODUCT = "Products.TIDStorage"


def find_script(name: str) -> Path:
    """The path of a script of the Zope product, which is looked up, not imported.

    Raises: PartMissing: where the product is not installed.
    """
    product = find_spec(_PRODUCT)
    if product is None or product.origin is None:
        raise PartMissing(f"the product {_PRODUCT} is not installed")
    return Path(product.origin).with_name(name)
