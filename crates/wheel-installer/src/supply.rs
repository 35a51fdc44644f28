//! Asks the indexes and folders of the sources for wheels.

use crate::{Error, Listener};
use crate::{
    fetch,
    http::Http,
    page::{self, Offer, Place},
    pip_config::{Link, Sources},
    resolve,
};
use std::path::{Path, PathBuf};

/// The sources, and a client that is made when it is first needed.
pub struct Supply<'a> {
    sources: Sources,
    cache: PathBuf,
    http: Option<Http>,
    listener: &'a dyn Listener,
}

impl<'a> Supply<'a> {
    pub fn new(sources: Sources, cache: PathBuf, listener: &'a dyn Listener) -> Self {
        Self { sources, cache, http: None, listener }
    }

    fn http(&mut self) -> Result<&Http, Error> {
        let http = match self.http.take() {
            Some(http) => http,
            None => Http::new(&self.sources)?,
        };
        Ok(self.http.insert(http))
    }

    fn linked(&mut self, link: &Link) -> Result<Vec<Offer>, Error> {
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
                let path = path.display();
                let warning = format!("warning: there is no folder `{path}` to look for wheels in");
                self.listener.note(&warning);
                Ok(Vec::new())
            }
        }
    }

    fn page(&mut self, url: &url::Url) -> Result<Vec<Offer>, Error> {
        let listener = self.listener;
        match self.http()?.page(url, &|| listener.goes_on())? {
            None => Ok(Vec::new()),
            Some(page) if page.is_json => page::json(&page.text, &page.url),
            Some(page) => Ok(page::html(&page.text, &page.url)),
        }
    }
}

fn is_of(offer: &Offer, distribution: &str) -> bool {
    let name = wheel_retag::normalize_distribution(&offer.name.distribution);
    name.is_ok_and(|name| name == distribution)
}

/// Refuses a distribution that two indexes offer, unless the second has nothing but copies of the
/// first one's files. Whoever may publish on one of them could otherwise replace what the other is
/// trusted for (dependency confusion), and no order of indexes is right for everybody.
fn agree(
    distribution: &str,
    (earlier, known): (&url::Url, &[Offer]),
    (later, found): (&url::Url, &[Offer]),
) -> Result<(), Error> {
    let is_copy = |offer: &Offer| {
        let same = known.iter().find(|known| known.file_name == offer.file_name);
        same.is_some_and(|same| same.sha256.is_some() && same.sha256 == offer.sha256)
    };
    if found.iter().all(is_copy) {
        return Ok(());
    }
    Err(Error::Disagree {
        distribution: distribution.to_owned(),
        earlier: page::shown(earlier),
        later: page::shown(later),
    })
}

fn offer_of(path: &Path) -> Option<Offer> {
    Offer::new(path.file_name()?.to_str()?, Place::File(path.to_owned()))
}

impl resolve::Supply for Supply<'_> {
    fn offers(&mut self, distribution: &str) -> Result<Vec<Offer>, Error> {
        let mut offers = Vec::new();
        for link in self.sources.find_links.clone() {
            offers.extend(self.linked(&link)?);
        }
        let mut first: Option<(url::Url, Vec<Offer>)> = None;
        for index in self.sources.indexes.clone() {
            let url = index.join(&format!("{distribution}/")).map_err(|error| {
                Error::IndexAddress { index: page::shown(&index), reason: error.to_string() }
            })?;
            let mut found = self.page(&url)?;
            found.retain(|offer| is_of(offer, distribution));
            match &first {
                _ if found.is_empty() => {}
                None => first = Some((index, found)),
                Some((earlier, known)) => agree(distribution, (earlier, known), (&index, &found))?,
            }
        }
        offers.retain(|offer| is_of(offer, distribution));
        offers.extend(first.into_iter().flat_map(|(_, found)| found));
        Ok(offers)
    }

    fn fetch(&mut self, offer: &Offer) -> Result<PathBuf, Error> {
        self.listener.goes_on()?;
        let (cache, listener) = (self.cache.clone(), self.listener);
        match &offer.place {
            Place::Url(url) => fetch::from_server(self.http()?, url, offer, &cache, listener),
            Place::File(path) => fetch::verified(offer, path.clone()),
        }
    }

    fn metadata(&mut self, wheel: &Path) -> Result<String, Error> {
        let mut texts = wheel_retag::read_dist_info(wheel, &["METADATA"])?;
        texts.remove("METADATA").ok_or_else(|| Error::NoMetadata { wheel: wheel.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(file_name: &str, sha256: Option<&str>) -> Offer {
        let mut offer = Offer::new(file_name, Place::File(file_name.into())).unwrap();
        offer.sha256 = sha256.map(str::to_owned);
        offer
    }

    #[test]
    fn a_second_index_may_have_copies_and_nothing_else() {
        let (own, public): (url::Url, url::Url) =
            ("https://own.example/".parse().unwrap(), "https://public.example/".parse().unwrap());
        let (old, new) = ("quicksand_x-1.0-py3-none-any.whl", "quicksand_x-99.0-py3-none-any.whl");
        let known = [offer(old, Some("aa"))];
        for (found, is_fine) in [
            (vec![offer(old, Some("aa"))], true),
            (vec![offer(old, Some("bb"))], false),
            (vec![offer(new, Some("aa"))], false),
            (vec![offer(old, Some("aa")), offer(new, Some("cc"))], false),
            (vec![offer(old, None)], false),
        ] {
            let outcome = agree("quicksand-x", (&own, &known), (&public, &found));
            assert_eq!(outcome.is_ok(), is_fine, "{found:?}");
        }
    }
}
