//go:build board

package main

import _ "nitro/board/evk" // the bare board; without the tag this is a Linux program
