//! `ringgate creds`, as its users run it.

mod fake;
mod place;
mod store;
