module nitro

go 1.26.0

require (
	github.com/google/go-tpm v0.9.8
	golang.org/x/crypto v0.58.0
	golang.org/x/sys v0.49.0
)
