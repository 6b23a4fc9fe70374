"""The JSON Schema of cluster.toml, for editors; kept in docs/.

``python -m tidstorage.cluster.schema > docs/cluster.schema.json``
"""

import json

from tidstorage.cluster.model import Description


def schema_text() -> str:
    """The schema as it is kept: indented JSON with a last newline."""
    return json.dumps(Description.model_json_schema(), indent=2) + "\n"


if __name__ == "__main__":
    print(schema_text(), end="")
