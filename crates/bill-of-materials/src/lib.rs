//! What a wheel or an image is made of, in the field's words: components, package URLs, licence expressions, and
//! the CycloneDX documents that hold them. The same components give the same bytes: no time of day and no random
//! number goes into a document.
//!
//! This crate must not know how a component was found.

mod bundle;
mod component;
pub mod copyright;
mod cyclonedx;
mod error;
mod expression;
pub mod image;
mod purl;

pub use bundle::{Subject, bill};
pub use component::{Component, How, license_expression, sources_text};
pub use error::Error;
pub use purl::{Purl, purl, purl_with};
