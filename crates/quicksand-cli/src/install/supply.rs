//! Asks the indexes and folders of the sources for wheels.

use super::{
    fetch,
    http::Http,
    page::{self, Offer, Place},
    pip_config::{Link, Sources},
    resolve,
};
use crate::report::{FAILURE, Failure};
use std::path::{Path, PathBuf};

/// The sources, and a client that is made when it is first needed.
pub struct Supply {
    sources: Sources,
    cache: PathBuf,
    http: Option<Http>,
}

impl Supply {
    pub fn new(sources: Sources, cache: PathBuf) -> Self {
        Self { sources, cache, http: None }
    }

    fn http(&mut self) -> Result<&Http, Failure> {
        let http = match self.http.take() {
            Some(http) => http,
            None => Http::new(&self.sources)?,
        };
        Ok(self.http.insert(http))
    }

    fn linked(&mut self, link: &Link) -> Result<Vec<Offer>, Failure> {
        match link {
            Link::Page(url) => self.page(url),
            Link::Folder(path)
                if path.is_file() && path.extension().is_some_and(|it| it == "whl") =>
            {
                Ok(offer_of(path).into_iter().collect())
            }
            Link::Folder(path) if path.is_dir() => {
                Ok(wheel_retag::wheels_in(path)?.iter().filter_map(|path| offer_of(path)).collect())
            }
            Link::Folder(path) => {
                eprintln!("warning: there is no folder `{}` to look for wheels in", path.display());
                Ok(Vec::new())
            }
        }
    }

    fn page(&mut self, url: &url::Url) -> Result<Vec<Offer>, Failure> {
        match self.http()?.page(url)? {
            None => Ok(Vec::new()),
            Some(page) if page.is_json => page::json(&page.text, &page.url),
            Some(page) => Ok(page::html(&page.text, &page.url)),
        }
    }
}

fn offer_of(path: &Path) -> Option<Offer> {
    Offer::new(path.file_name()?.to_str()?, Place::File(path.to_owned()))
}

impl resolve::Supply for Supply {
    fn offers(&mut self, distribution: &str) -> Result<Vec<Offer>, Failure> {
        let mut offers = Vec::new();
        for link in self.sources.find_links.clone() {
            offers.extend(self.linked(&link)?);
        }
        for index in self.sources.indexes.clone() {
            let url = index.join(&format!("{distribution}/")).map_err(|error| {
                let message = format!("Invalid index `{}`: {error}", page::shown(&index));
                Failure::new(FAILURE, message, None)
            })?;
            offers.extend(self.page(&url)?);
        }
        offers.retain(|offer| {
            let name = wheel_retag::normalize_distribution(&offer.name.distribution);
            name.is_ok_and(|name| name == distribution)
        });
        Ok(offers)
    }

    fn fetch(&mut self, offer: &Offer) -> Result<PathBuf, Failure> {
        let cache = self.cache.clone();
        let http = match &offer.place {
            Place::Url(_) => Some(self.http()?),
            Place::File(_) => None,
        };
        fetch::fetch(http, offer, &cache)
    }

    fn metadata(&mut self, wheel: &Path) -> Result<String, Failure> {
        let mut texts = wheel_retag::read_dist_info(wheel, &["METADATA"])?;
        texts.remove("METADATA").ok_or_else(|| {
            Failure::new(FAILURE, format!("`{}` has no METADATA", wheel.display()), None)
        })
    }
}
