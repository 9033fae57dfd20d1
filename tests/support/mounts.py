"""Types of file systems by what is to come of records on them, for whoever judges them."""

from typing import Final

LOCAL: Final = ("ext4", "xfs", "btrfs", "zfs", "overlay", "fuse.fuse-overlayfs", "tmpfs")
NOT_LOCAL: Final = (
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "beegfs", "ncpfs", "gpfs"),
    *("gfs2", "ocfs2", "virtiofs", "vboxsf", "fuse", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs"),
    *("fuse.rclone", "fuse.mfs", "fuseblk", "fuse.ntfs-3g"),
)
