package peer

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// A cpio is an archive in the "newc" format that Linux unpacks at boot
// (Documentation/driver-api/early-userspace/buffer-format.rst): a header of
// fourteen fields of eight hexadecimal digits after the magic, the name with
// its NUL, the data, name and data each padded to four bytes, and a last entry
// called TRAILER!!!. It is written without compression: the guest then copies
// it instead of unpacking it, which on an emulated processor is faster.
//
// All entries belong to root and carry no time, so that equal contents make
// equal archives.
type cpio struct {
	out   bytes.Buffer
	inode int
	kinds map[string]uint32 // what the archive has already: typeFolder or typeFile by path
}

// Types of file in an entry's mode, as in inode(7).
const (
	typeFolder = 0o040000
	typeFile   = 0o100000
)

// maxName bounds a path in the guest: PATH_MAX with its NUL.
const maxName = 4096

// add appends a file at the absolute path name, and the folders above it that
// are not there yet.
func (c *cpio) add(name string, data []byte, perm fs.FileMode) error {
	if !path.IsAbs(name) || path.Clean(name) != name || name == "/" || len(name) >= maxName {
		return fmt.Errorf("peer: initramfs: %q is not a clean absolute path below %d bytes", name, maxName)
	}
	if int64(len(data)) > 1<<32-1 {
		return fmt.Errorf("peer: initramfs: %s is larger than an entry may be (4 GiB)", name)
	}
	if _, there := c.kinds[name]; there {
		return fmt.Errorf("peer: initramfs: %s is there twice", name)
	}
	if err := c.folder(path.Dir(name)); err != nil {
		return err
	}
	c.mark(name, typeFile)
	c.entry(name[1:], typeFile|uint32(perm.Perm()), 1, data)
	return nil
}

// has reports whether there is a file at a path.
func (c *cpio) has(name string) bool { return c.kinds[name] == typeFile }

// folder appends a folder and those above it, unless they are there.
func (c *cpio) folder(name string) error {
	if name == "/" || c.kinds[name] == typeFolder {
		return nil
	}
	if c.kinds[name] == typeFile {
		return fmt.Errorf("peer: initramfs: %s is a file and cannot hold files", name)
	}
	if err := c.folder(path.Dir(name)); err != nil {
		return err
	}
	c.mark(name, typeFolder)
	c.entry(name[1:], typeFolder|0o755, 2, nil)
	return nil
}

func (c *cpio) mark(name string, kind uint32) {
	if c.kinds == nil {
		c.kinds = make(map[string]uint32)
	}
	c.kinds[name] = kind
}

// entry writes one header, name and data.
func (c *cpio) entry(name string, mode, links uint32, data []byte) {
	c.inode++
	fields := []uint32{
		uint32(c.inode), mode, 0, 0, links, 0, uint32(len(data)), // inode, mode, uid, gid, links, time, size
		0, 0, 0, 0, uint32(len(name) + 1), 0, // device, device node, length of the name, checksum
	}
	c.out.WriteString("070701")
	for _, f := range fields {
		fmt.Fprintf(&c.out, "%08X", f)
	}
	c.out.WriteString(name)
	c.out.WriteByte(0)
	c.pad()
	c.out.Write(data)
	c.pad()
}

// pad fills up to a multiple of four bytes.
func (c *cpio) pad() {
	c.out.Write(make([]byte, -c.out.Len()&3))
}

// bytes ends the archive and gives it.
func (c *cpio) bytes() []byte {
	c.entry("TRAILER!!!", 0, 1, nil)
	return c.out.Bytes()
}

// hidden tells whether a guest path is in a folder that the guest's init mounts
// over, where no program would see it.
func hidden(name string) bool {
	for _, top := range []string{"/proc", "/sys", "/dev", "/tmp"} {
		if name == top || strings.HasPrefix(name, top+"/") {
			return true
		}
	}
	return false
}
