-- Providers of language models and the names that stand for their models. What
-- the configuration names is not here.

-- The key of each is among the secrets.
CREATE TABLE model_providers (
    name TEXT PRIMARY KEY,
    -- A JSON object: where it is, how it is asked.
    settings TEXT NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE model_routes (
    -- What clients write for `model`.
    alias TEXT PRIMARY KEY,
    -- A JSON array of {"provider", "model"}, tried in this order.
    targets TEXT NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
