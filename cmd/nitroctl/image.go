package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"nitro/boot/code"
	"nitro/boot/config"
	"nitro/boot/image"
	"nitro/boot/medium"
	"nitro/boot/release"
)

// componentNames are what -component takes, in the order in which the format numbers them
// from 1 on.
var componentNames = []string{"bootloader", "controller", "configuration", "known-good", "host-firmware", "bmc-firmware", "card-firmware", "policy-set"}

func componentName(c image.Component) string {
	if i := int(c) - 1; i >= 0 && i < len(componentNames) {
		return componentNames[i]
	}
	return c.String()
}

// parseComponent is the inverse of componentName.
func parseComponent(name string) (image.Component, error) {
	i := slices.Index(componentNames, name)
	if i < 0 {
		return 0, usage("-component %q: it is one of %s", name, strings.Join(componentNames, ", "))
	}
	return image.Component(i + 1), nil
}

var imageGroup = &group{"image", "signed images", []*command{
	{
		name:    "build",
		summary: "make the payload of a program",
		about: `
Takes the memory image of a program out of the ELF file that the linker wrote: what an
image of bootloader or controller has behind its header. Who builds the same sources gets
the same SHA-256. It signs nothing: image sign takes the ELF file itself.
`,
		example: "nitroctl image build -elf build/controller.elf -out controller.payload",
		setup:   imageBuild,
	},
	{
		name:    "sign",
		summary: "sign a payload",
		about: `
Makes a signed image: of an ELF file for bootloader and controller, else of the payload's
file as it is. Both keys of the authority sign; development keys make a development image.
A configuration is signed by config sign, which checks it.
`,
		example: "nitroctl image sign -keys keys -component bmc-firmware -in bmc.rom -product imx6ul-evk -version 2.1 -built 1767225600 -out bmc.img",
		setup:   imageSign,
	},
	{
		name:    "inspect",
		summary: "show what an image says of itself",
		args:    "FILE",
		about: `
Shows the header of an image, and whether the payload has the digest that the header
states. Signatures are not verified: image verify does that.
`,
		example: "nitroctl image inspect release/controller.img",
		setup:   imageInspect,
	},
	{
		name:    "verify",
		summary: "verify an image as a board does",
		args:    "FILE",
		about: `
Verifies header, both signatures, and payload, in the order in which a board does. What is
not given is taken from the image: product and component. The anchor block has to be given.
`,
		example: "nitroctl image verify -anchors release/anchors.bin -component controller -floor 3 release/controller.img",
		setup:   imageVerify,
	},
}}

// An imageInfo is a header.
type imageInfo struct {
	Component       string `json:"component"`
	Product         string `json:"product"`
	Version         string `json:"version"`
	SecurityVersion uint32 `json:"security_version"`
	Development     bool   `json:"development"`
	Built           uint64 `json:"built"`
	Length          uint64 `json:"length"`
	SHA256          string `json:"sha256"`
	Load            uint32 `json:"load"`
	Entry           uint32 `json:"entry"`
	Ed25519Key      string `json:"ed25519_key"`
	MLDSA65Key      string `json:"mldsa65_key"`
	Verified        bool   `json:"verified"` // both signatures, and the payload
	File            string `json:"file,omitempty"`
}

func describeImage(h image.Header) imageInfo {
	return imageInfo{Component: componentName(h.Component), Product: h.Product, Version: h.Version, SecurityVersion: h.SecurityVersion,
		Development: h.Development, Built: h.Built, Length: h.Length, SHA256: hexOf(h.Digest), Load: h.Load, Entry: h.Entry,
		Ed25519Key: hexOf(h.Ed25519Key), MLDSA65Key: hexOf(h.MLDSA65Key)}
}

func (i imageInfo) print(w io.Writer) {
	place := ""
	if i.Load != 0 {
		place = fmt.Sprintf("loaded at %#x, entered at %#x", i.Load, i.Entry)
	}
	table(w, [2]string{"component", i.Component}, [2]string{"product", i.Product},
		[2]string{"version", i.Version}, [2]string{"security version", fmt.Sprint(i.SecurityVersion)},
		[2]string{"development", yes(i.Development)},
		[2]string{"built", fmt.Sprintf("%d (%s)", i.Built, time.Unix(int64(i.Built), 0).UTC().Format(time.RFC3339))},
		[2]string{"payload", fmt.Sprintf("%d bytes", i.Length)}, [2]string{"sha256", i.SHA256}, [2]string{"code", place},
		[2]string{"ed25519 key", i.Ed25519Key}, [2]string{"ml-dsa-65 key", i.MLDSA65Key},
		[2]string{"verified", yes(i.Verified)}, [2]string{"written to", i.File})
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// A payloadInfo is a payload that was made.
type payloadInfo struct {
	File   string `json:"file"`
	Length int    `json:"length"`
	SHA256 string `json:"sha256"`
	Load   uint32 `json:"load"`
	Entry  uint32 `json:"entry"`
}

func (p payloadInfo) print(w io.Writer) {
	table(w, [2]string{"payload", fmt.Sprintf("%d bytes", p.Length)}, [2]string{"sha256", p.SHA256},
		[2]string{"code", fmt.Sprintf("loaded at %#x, entered at %#x", p.Load, p.Entry)}, [2]string{"written to", p.File})
}

func imageBuild(f *flag.FlagSet) func(*call) (result, error) {
	elf := f.String("elf", "", "`file` that the linker wrote")
	out := f.String("out", "", "`file` to write the payload to")
	return func(*call) (result, error) {
		if err := need(map[string]string{"elf": *elf, "out": *out}); err != nil {
			return nil, err
		}
		p, err := release.ReadPayload(*elf)
		if err != nil {
			return nil, err
		}
		if err := writeNew(*out, p.Bytes); err != nil {
			return nil, err
		}
		return payloadInfo{*out, len(p.Bytes), hexOf(sha256.Sum256(p.Bytes)), p.Load, p.Entry}, nil
	}
}

func imageSign(f *flag.FlagSet) func(*call) (result, error) {
	keys, built := keysFlag(f), builtFlag(f)
	component := f.String("component", "", "`what` it is: "+strings.Join(componentNames, ", "))
	in := f.String("in", "", "`file` to sign: ELF for code, else the payload")
	out := f.String("out", "", "`file` to write the image to")
	product := f.String("product", "", "`product` that it is for: imx6ul-evk, imx6ul-armory")
	version := f.String("version", "", "`version`, for people")
	sv := f.Uint("security-version", 0, "security `version`, 0 to 64: boards refuse what is below their floor")
	return func(*call) (result, error) {
		c, err := parseComponent(*component)
		if err != nil {
			return nil, err
		}
		if c == image.Configuration {
			return nil, usage("a configuration is signed by nitroctl config sign")
		}
		if err := need(map[string]string{"in": *in, "out": *out, "product": *product, "version": *version}); err != nil {
			return nil, err
		}
		h := image.Header{Component: c, Product: *product, Version: *version}
		if h.Built, err = built(); err != nil {
			return nil, err
		}
		if h.SecurityVersion, err = securityVersion(*sv); err != nil {
			return nil, err
		}
		i, err := signFile(*keys, h, *in)
		if err != nil {
			return nil, err
		}
		if err := writeNew(*out, i.Bytes); err != nil {
			return nil, err
		}
		info := describeImage(i.Header)
		info.Verified, info.File = true, *out // signing verifies
		return info, nil
	}
}

// signFile signs what is in a file.
func signFile(keys list, h image.Header, in string) (i release.Image, err error) {
	k, err := keys.load()
	if err != nil {
		return i, err
	}
	s, err := k.ImageSigner(h.Component.Purpose())
	if err != nil {
		return i, err
	}
	h.Development = k.Development()
	if h.Component.Load() != 0 {
		p, err := release.ReadPayload(in)
		if err != nil {
			return i, err
		}
		return release.SignCode(h, h.Component, p, s)
	}
	payload, err := readFile(in, int64(h.Component.MaxLength()))
	if err != nil {
		return i, err
	}
	return release.Sign(h, payload, s)
}

// maxImage is the longest image of any component.
var maxImage = image.HostFirmware.MaxLength()

// one gives the only argument.
func (c *call) one(what string) (string, error) {
	if len(c.args) != 1 {
		return "", usage("give one %s, not %d", what, len(c.args))
	}
	return c.args[0], nil
}

func imageInspect(f *flag.FlagSet) func(*call) (result, error) {
	return func(c *call) (result, error) {
		path, err := c.one("image")
		if err != nil {
			return nil, err
		}
		i, err := release.ReadImage(path, maxImage)
		if err != nil {
			return nil, err
		}
		info := describeImage(i.Header)
		if got := sha256.Sum256(i.Payload()); uint64(len(i.Payload())) != i.Length || got != i.Digest {
			return info, code.ImageDigest.Errorf("%s: the payload has %d bytes and SHA-256 %x; the header says %d and %x", path, len(i.Payload()), got, i.Length, i.Digest)
		}
		return info, nil
	}
}

func imageVerify(f *flag.FlagSet) func(*call) (result, error) {
	anchors := f.String("anchors", "", anchorsUsage)
	configuration := f.String("config", "", "`file` of a configuration, for the release authorities that it adds")
	component := f.String("component", "", "`what` it must be; without it what it says")
	product := f.String("product", "", "`product` that it must be for; without it what it says")
	floor := f.Uint("floor", 0, "lowest security `version` that the board runs")
	return func(c *call) (result, error) {
		path, err := c.one("image")
		if err != nil {
			return nil, err
		}
		if err := need(map[string]string{"anchors": *anchors}); err != nil {
			return nil, err
		}
		a, err := readAnchors(*anchors)
		if err != nil {
			return nil, err
		}
		i, err := release.ReadImage(path, maxImage)
		if err != nil {
			return nil, err
		}
		w := image.Want{Where: path, Component: i.Component, Product: i.Product, Development: a.Development, Authorities: a.Authorities}
		if *component != "" {
			if w.Component, err = parseComponent(*component); err != nil {
				return nil, err
			}
		}
		if *product != "" {
			w.Product = *product
		}
		if w.Floor, err = securityVersion(*floor); err != nil {
			return nil, err
		}
		if *configuration != "" {
			if w.Authorities, err = withConfiguration(*configuration, a, w.Product); err != nil {
				return nil, err
			}
		}
		return verifyImage(i, w)
	}
}

// withConfiguration gives the authorities of anchor block and configuration.
func withConfiguration(path string, a *medium.Anchors, product string) ([]image.Authority, error) {
	s, err := readConfiguration(path, a, product)
	if err != nil {
		return nil, err
	}
	return s.Authorities(a), nil
}

// readConfiguration reads a signed configuration's file and verifies it.
func readConfiguration(path string, a *medium.Anchors, product string) (*config.Signed, error) {
	b, err := readFile(path, image.HeaderSize+config.MaxSize)
	if err != nil {
		return nil, err
	}
	s, err := config.Verify(b, config.Want{Product: product, Anchors: a})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

func verifyImage(i release.Image, w image.Want) (result, error) {
	v, err := image.Open(bytes.NewReader(i.Bytes), w)
	if err != nil {
		return describeImage(i.Header), err
	}
	if n := uint64(len(i.Payload())); n > v.Length {
		return describeImage(i.Header), errors.New("the file goes on behind the payload: give the image alone")
	}
	if err := v.Load(make([]byte, v.Length)); err != nil {
		return describeImage(i.Header), err
	}
	info := describeImage(v.Header)
	info.Verified = true
	return info, nil
}
