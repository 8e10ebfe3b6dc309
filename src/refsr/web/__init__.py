"""Web page of `refsr serve`: `request` runs one job within limits, `page` shows it."""
