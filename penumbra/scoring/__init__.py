"""Tables in files, scored by a service: millions of rows in bounded memory, and taken up again where it was stopped.

CSV needs nothing but Python; Parquet needs pyarrow, `pip install '.[score]'` in the source tree.
"""

from __future__ import annotations

from penumbra.scoring.job import Job as Job
from penumbra.scoring.job import Outcome as Outcome
from penumbra.scoring.job import score as score
from penumbra.scoring.tables import TableError as TableError
