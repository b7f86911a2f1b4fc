"""Neuroglancer Precomputed volumes as ordinary xarray data.

>>> import xarray as xr
>>> ds = xr.open_dataset(url, engine="precomputed")  # doctest: +SKIP
"""

import lazy_loader as _lazy_loader

from xprecomputed import accessor as _accessor  # registers .precomputed

# what the stub beside this file names, imported when it is first asked for: two thirds of the
# package are of no use to who only opens an array
__getattr__, __dir__, __all__ = _lazy_loader.attach_stub(__name__, __file__)

del _accessor
