//! The choice of the accelerator on the machine that runs the test.

use crate::site::Site;
use host_platform::Arch;
use runtime_locator::{Accelerator, AcceleratorRequest, Search, choose_accelerator};
use std::time::Duration;

/// `auto` must come to an answer quickly and the same one when asked again; the second time a
/// lasting verdict is known.
#[test]
fn auto_is_quick_consistent_and_says_why() {
    let site = Site::new();
    let cache = site.path("cache/quicksand");
    let search = Search { cache_dir: Some(cache.clone()), ..Search::from_process(Vec::new()) };
    let native = search.host.arch;
    let first = choose_accelerator(&search, AcceleratorRequest::Auto, native);
    let verdict = first.verdict.clone().unwrap();
    println!("{} because {} in {:?}", first.accelerator, first.reason, verdict.elapsed);
    assert!(verdict.elapsed < Duration::from_secs(1), "{verdict:?}");
    assert!(!verdict.cached);
    assert_eq!(verdict.usable, first.accelerator != Accelerator::Tcg);
    assert!(!first.reason.is_empty());

    let second = choose_accelerator(&search, AcceleratorRequest::Auto, native);
    if cache.join("accelerator.json").exists() {
        let known = second.verdict.unwrap();
        assert!(known.cached);
        assert_eq!(second.accelerator, first.accelerator);
        assert_eq!(second.reason, first.reason);
        fs_err::write(cache.join("accelerator.json"), "nonsense").unwrap();
        let third = choose_accelerator(&search, AcceleratorRequest::Auto, native);
        assert!(!third.verdict.unwrap().cached, "a bad file is ignored");
    }

    let foreign: Arch = native.other();
    let choice = choose_accelerator(&search, AcceleratorRequest::Auto, foreign);
    assert_eq!(choice.accelerator, Accelerator::Tcg);
}
