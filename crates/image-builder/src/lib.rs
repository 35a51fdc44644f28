//! Bakes kernel, initrd and qcow2 images from recipes
