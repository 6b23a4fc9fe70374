"""The Zope product: ``<product-config TIDStorage>`` in zope.conf switches it on.

Zope imports products before it opens any database, so the hook sees them all.
The work is done by the library, ``tidstorage``.
"""

import logging

from App.config import getConfiguration

import tidstorage
from Products.TIDStorage.configuration import read

logger = logging.getLogger("Products.TIDStorage")


def _switch_on() -> None:
    configuration = getConfiguration()
    if not hasattr(configuration, "product_config"):
        # No zope.conf was read: this is a script that imports the product.
        return
    section = (configuration.product_config or {}).get("tidstorage")
    if section is None:
        logger.warning(
            "commits are not stamped: zope.conf has no <product-config TIDStorage>"
        )
        return
    options = read(section)
    tidstorage.install(
        options.address,
        options.ids,
        outcome_unknown=options.outcome_unknown,
        clear_caches=options.clear_caches,
        drop_oids=options.drop_oids,
        name=options.name,
    )


_switch_on()
