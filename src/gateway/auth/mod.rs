//! Who sends a request, and what that one may do: signatures, credentials and policies.
