//go:build !boardtest

package kernel

// Product images know no host and no pipes, and blank user memory in what a dying
// program says. See host_arm.go and pipe.go for images that test.

const redact = true

func (k *kernel) hostCall(*[15]uint32) uint32                         { return eNOSYS }
func (k *kernel) hostOpen(path, n, flags uint32) uint32               { return eNOENT }
func (k *kernel) hostRead(f *file, addr, n uint32) uint32             { return eBADF }
func (k *kernel) hostWrite(f *file, addr, n uint32) uint32            { return eBADF }
func (k *kernel) hostLength(f *file) uint32                           { return 0 }
func (k *kernel) hostClose(f *file)                                   {}
func (k *kernel) hostArguments(s *stackWriter) (count uint32)         { return 0 }
func (k *kernel) hostEnvironment(s *stackWriter) (count uint32)       { return 0 }
func (k *kernel) readPipe(t *thread, f *file, addr, n uint32) uint32  { return eBADF }
func (k *kernel) writePipe(t *thread, f *file, addr, n uint32) uint32 { return eBADF }
func (k *kernel) closePipe(f *file)                                   {}
func callPipe2(*kernel, *thread) uint32                               { return eNOSYS }
func exitHost(reason, code uint32)                                    {}
