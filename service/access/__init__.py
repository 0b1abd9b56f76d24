"""Who may ask: keys, tokens and rates. Knows no HTTP; `api.guard` stands at the door."""
