//! Which of their needs the files of a subject find, process by process.
//!
//! A library that one program finds is of no use to another: what is found depends on who started the
//! process, and in which order it loads. So each file that a process or an interpreter starts with is
//! followed on its own, breadth first as loaders do it, and a need counts as found when it is found in
//! every process that loads the file. Must not know any format: a [`Loader`] has its system's rules.

/// A system's rules, for the files of one subject, which are numbered.
pub(super) trait Loader {
    /// How many files there are.
    fn n_files(&self) -> usize;
    /// Whether a process or an interpreter starts with the file, whatever else needs it.
    fn starts(&self, file: usize) -> bool;
    /// How many libraries a file needs.
    fn n_needs(&self, file: usize) -> usize;
    /// What is loaded for a need of the first file of `chain`; what follows there is who loaded it, up to
    /// the file that the process started with. `loaded` is what the process has already, in its order.
    fn find(&self, need: usize, chain: &[usize], loaded: &[usize]) -> Hit;
}

/// Where a need is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hit {
    /// By this file of the subject.
    File(usize),
    /// By what is outside of the subject, for certain.
    Outside,
    /// The subject does not meet it.
    Nothing,
}

/// A file of a process, with what became of each of its needs.
struct Loaded {
    file: usize,
    hits: Vec<Hit>,
}

/// For each file and need, whether it is met in every process that loads the file.
pub(super) fn found(loader: &impl Loader) -> Vec<Vec<bool>> {
    let n_files = loader.n_files();
    let processes: Vec<Vec<Loaded>> = (0..n_files).map(|file| process(loader, file)).collect();
    let mut is_needed = vec![false; n_files];
    for (start, process) in processes.iter().enumerate() {
        for loaded in process.iter().filter(|loaded| loaded.file != start) {
            is_needed[loaded.file] = true;
        }
    }
    let mut found: Vec<Option<Vec<bool>>> = vec![None; n_files];
    let follow = |start: usize, found: &mut Vec<Option<Vec<bool>>>| {
        for Loaded { file, hits } in &processes[start] {
            let met = hits.iter().map(|hit| *hit != Hit::Nothing);
            match &mut found[*file] {
                Some(known) => known.iter_mut().zip(met).for_each(|(known, met)| *known &= met),
                unknown => *unknown = Some(met.collect()),
            }
        }
    };
    for (start, is_needed) in is_needed.iter().enumerate() {
        if loader.starts(start) || !is_needed {
            follow(start, &mut found);
        }
    }
    // Libraries that need each other and that nothing starts with.
    for start in 0..n_files {
        if found[start].is_none() {
            follow(start, &mut found);
        }
    }
    found.into_iter().map(Option::unwrap_or_default).collect()
}

fn process(loader: &impl Loader, start: usize) -> Vec<Loaded> {
    let mut files = vec![start];
    let mut parents: Vec<Option<usize>> = vec![None];
    let mut process = Vec::new();
    let mut at = 0;
    while at < files.len() {
        let mut chain = vec![files[at]];
        let mut link = parents[at];
        while let Some(parent) = link {
            chain.push(files[parent]);
            link = parents[parent];
        }
        let mut hits = Vec::new();
        for need in 0..loader.n_needs(files[at]) {
            let hit = loader.find(need, &chain, &files);
            if let Hit::File(file) = hit
                && !files.contains(&file)
            {
                files.push(file);
                parents.push(Some(at));
            }
            hits.push(hit);
        }
        process.push(Loaded { file: files[at], hits });
        at += 1;
    }
    process
}

#[cfg(test)]
mod tests {
    use super::*;

    /// File 0 hands its search path down, file 1 does not; both need 2, which needs 3.
    struct Two {
        programs: Vec<usize>,
    }

    impl Loader for Two {
        fn n_files(&self) -> usize {
            4
        }
        fn starts(&self, file: usize) -> bool {
            self.programs.contains(&file)
        }
        fn n_needs(&self, file: usize) -> usize {
            usize::from(file != 3)
        }
        fn find(&self, _: usize, chain: &[usize], _: &[usize]) -> Hit {
            match chain {
                [0 | 1] | [2, ..] if chain.len() == 1 && chain[0] < 2 => Hit::File(2),
                [2, 0] => Hit::File(3),
                _ => Hit::Nothing,
            }
        }
    }

    #[test]
    fn a_need_is_met_when_every_process_meets_it() {
        let met = found(&Two { programs: vec![0, 1] });
        assert_eq!(met[2], [false], "the process of file 1 does not find it");
        assert_eq!((met[0].as_slice(), met[1].as_slice()), (&[true][..], &[true][..]));
        assert!(met[3].is_empty());
    }
}
