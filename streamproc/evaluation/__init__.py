"""Does the service find and name what happens? The whole path over corpora whose truth is known."""
