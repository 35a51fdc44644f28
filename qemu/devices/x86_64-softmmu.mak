# The devices of the x86_64 emulator: what a sandbox can be given, and nothing else, because every
# device model that a hostile guest can reach is attack surface. Kconfig adds what these select.

# Machines: q35 for every guest, microvm for kernels that need no firmware tables.
CONFIG_Q35=y
CONFIG_MICROVM=y
CONFIG_PCI_DEVICES=y
CONFIG_PCIE_PORT=y

# A guest that panics or asks to leave is told apart from one that hangs.
CONFIG_PVPANIC_PCI=y
CONFIG_PVPANIC_ISA=y
CONFIG_ISA_DEBUG=y

# Disks, network, agent's port, entropy, memory.
CONFIG_VIRTIO_PCI=y
CONFIG_VIRTIO_BLK=y
CONFIG_VIRTIO_SCSI=y
CONFIG_VIRTIO_NET=y
CONFIG_VIRTIO_SERIAL=y
CONFIG_VIRTIO_RNG=y
CONFIG_VIRTIO_BALLOON=y
CONFIG_VIRTIO_MEM=y
CONFIG_VIRTIO_PMEM=y
CONFIG_VIRTIO_IOMMU=y
CONFIG_NVDIMM=y

# Shared folders and host sockets.
CONFIG_VIRTIO_9P=y
CONFIG_VHOST_USER_FS=y
CONFIG_VHOST_VSOCK=y
# Memory that the guest and this host's server of shares both see.
CONFIG_IVSHMEM_DEVICE=y

# Desktop: display, keyboard, pointer.
CONFIG_VIRTIO_GPU=y
CONFIG_VIRTIO_VGA=y
CONFIG_VIRTIO_INPUT=y
CONFIG_VGA_PCI=y
CONFIG_BOCHS_DISPLAY=y
CONFIG_USB_EHCI_PCI=y
CONFIG_USB_XHCI_PCI=y
CONFIG_USB_HID=y

# A restored or cloned machine learns that its entropy and identity are no longer its own.
CONFIG_ACPI_VMGENID=y
