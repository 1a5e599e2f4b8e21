// Command large is an image with much of the standard library in it.
package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"

	_ "nitro/board/evk"
)

func main() {
	json.NewEncoder(os.Stdout).Encode(map[string]any{"version": tls.VersionName(tls.VersionTLS13)})
	fmt.Println(http.ListenAndServe("127.0.0.1:0", nil))
}
