// Command hello is the smallest image: it shows how long the way to main is.
package main

import _ "nitro/board/evk"

func main() { println("hello") }
