-- Prices of language models that the administrator has written. Those that the
-- service comes with are not here.

CREATE TABLE model_prices (
    -- The provider's name for the model, or provider/model.
    model TEXT NOT NULL,
    -- Microseconds since 1970; 0 for a price that counts from ever.
    effective_from INTEGER NOT NULL,
    -- A JSON object: what is paid, in US dollars, and what the model can take.
    sheet TEXT NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (model, effective_from)
) STRICT, WITHOUT ROWID;
