//! Names of the files and folders of bundles, images and saves, and their manifests
