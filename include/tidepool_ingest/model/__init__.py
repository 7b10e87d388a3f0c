"""What a Tidepool record is: the Platform's rules, its verdict, and what it stores."""

from __future__ import annotations

from tidepool_ingest.model.data_set import data_set_problems, validate_data_set
from tidepool_ingest.model.datum import KNOWN_TYPES, type_of
from tidepool_ingest.model.decode import NotDecodableError, decode
from tidepool_ingest.model.deduplicators import (
    DEDUPLICATORS,
    DEVICE_DEACTIVATE_HASH,
    Deduplicator,
    HashScope,
    deduplicator_named,
    deduplicator_of,
    default_for,
)
from tidepool_ingest.model.fast_path import Outline
from tidepool_ingest.model.glucose import (
    MG_PER_DL_IN_MMOL_PER_L,
    MG_PER_DL_UNITS,
    MMOL_PER_L,
    MMOL_PER_L_UNITS,
    glucose_reading,
    glucose_readings,
    readings_of,
    to_mmol_per_l,
)
from tidepool_ingest.model.identity import NoIdentityError, identity_fields, identity_hash
from tidepool_ingest.model.problems import (
    JSON_MALFORMED,
    STAGED_NOT_JSON,
    STAGED_NOT_UTF8,
    STAGED_NUL_IN_NAME,
    STAGED_TIME_NOT_SHOWN,
    Problem,
)
from tidepool_ingest.model.stored import (
    EMBEDDING_TYPES,
    NotAcceptedError,
    content_of,
    embedded_data,
    stored_form,
)
from tidepool_ingest.model.verdict import (
    LineObjects,
    Validated,
    masked_pointer,
    validate_block,
    validate_datum,
    validate_lines,
)

__all__ = [
    "DEDUPLICATORS",
    "DEVICE_DEACTIVATE_HASH",
    "EMBEDDING_TYPES",
    "JSON_MALFORMED",
    "KNOWN_TYPES",
    "MG_PER_DL_IN_MMOL_PER_L",
    "MG_PER_DL_UNITS",
    "MMOL_PER_L",
    "MMOL_PER_L_UNITS",
    "STAGED_NOT_JSON",
    "STAGED_NOT_UTF8",
    "STAGED_NUL_IN_NAME",
    "STAGED_TIME_NOT_SHOWN",
    "Deduplicator",
    "HashScope",
    "LineObjects",
    "NoIdentityError",
    "NotAcceptedError",
    "NotDecodableError",
    "Outline",
    "Problem",
    "Validated",
    "content_of",
    "data_set_problems",
    "decode",
    "deduplicator_named",
    "deduplicator_of",
    "default_for",
    "embedded_data",
    "glucose_reading",
    "glucose_readings",
    "identity_fields",
    "identity_hash",
    "masked_pointer",
    "readings_of",
    "stored_form",
    "to_mmol_per_l",
    "type_of",
    "validate_block",
    "validate_data_set",
    "validate_datum",
    "validate_lines",
]
