"""Charts of TLS outcomes: `specs` says what they show (Vega-Lite, pure), `render` makes pictures of them."""
