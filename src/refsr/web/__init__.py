"""The page in the browser: `request` does a job within limits, `page` shows it."""
