"""The admin page: shows, relays, and cannot approve. Its own process, user and socket."""
