// A virtual network with a way out, and an internal load balancer that asks /readyz.

param prefix string
param location string
param addressPrefix string
param listenPort int
param adminPort int

resource outIp 'Microsoft.Network/publicIPAddresses@2024-05-01' = {
  name: '${prefix}-out'
  location: location
  sku: {
    name: 'Standard'
  }
  properties: {
    publicIPAllocationMethod: 'Static'
  }
}

// Behind an internal Standard load balancer nothing gets out by itself.
resource nat 'Microsoft.Network/natGateways@2024-05-01' = {
  name: '${prefix}-nat'
  location: location
  sku: {
    name: 'Standard'
  }
  properties: {
    publicIpAddresses: [
      {
        id: outIp.id
      }
    ]
    idleTimeoutInMinutes: 10
  }
}

resource rules 'Microsoft.Network/networkSecurityGroups@2024-05-01' = {
  name: '${prefix}-nsg'
  location: location
  properties: {
    securityRules: [
      {
        name: 'callers'
        properties: {
          priority: 100
          direction: 'Inbound'
          access: 'Allow'
          protocol: 'Tcp'
          sourceAddressPrefix: 'VirtualNetwork'
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: string(listenPort)
        }
      }
      {
        // Metrics too; the admin API asks for its token.
        name: 'probes-and-metrics'
        properties: {
          priority: 110
          direction: 'Inbound'
          access: 'Allow'
          protocol: 'Tcp'
          sourceAddressPrefixes: [
            '168.63.129.16/32'
            addressPrefix
          ]
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: string(adminPort)
        }
      }
      {
        name: 'nothing-else'
        properties: {
          priority: 4000
          direction: 'Inbound'
          access: 'Deny'
          protocol: '*'
          sourceAddressPrefix: '*'
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: '*'
        }
      }
    ]
  }
}

resource network 'Microsoft.Network/virtualNetworks@2024-05-01' = {
  name: '${prefix}-vnet'
  location: location
  properties: {
    addressSpace: {
      addressPrefixes: [
        addressPrefix
      ]
    }
    subnets: [
      {
        name: 'gateways'
        properties: {
          addressPrefix: addressPrefix
          natGateway: {
            id: nat.id
          }
          networkSecurityGroup: {
            id: rules.id
          }
        }
      }
    ]
  }
}

resource subnet 'Microsoft.Network/virtualNetworks/subnets@2024-05-01' existing = {
  parent: network
  name: 'gateways'
}

var balancerName = '${prefix}-lb'

resource balancer 'Microsoft.Network/loadBalancers@2024-05-01' = {
  name: balancerName
  location: location
  sku: {
    name: 'Standard'
  }
  properties: {
    frontendIPConfigurations: [
      {
        name: 'callers'
        properties: {
          subnet: {
            id: subnet.id
          }
          privateIPAllocationMethod: 'Dynamic'
        }
      }
    ]
    backendAddressPools: [
      {
        name: 'gateways'
      }
    ]
    probes: [
      {
        // 503 from SIGTERM on, for lb_delay: two probes in ten seconds see it before the listeners close.
        name: 'readyz'
        properties: {
          protocol: 'Http'
          port: adminPort
          requestPath: '/readyz'
          intervalInSeconds: 5
          probeThreshold: 2
        }
      }
    ]
    loadBalancingRules: [
      {
        name: 'callers'
        properties: {
          protocol: 'Tcp'
          frontendPort: listenPort
          backendPort: listenPort
          idleTimeoutInMinutes: 30
          enableTcpReset: true
          disableOutboundSnat: true
          frontendIPConfiguration: {
            id: resourceId('Microsoft.Network/loadBalancers/frontendIPConfigurations', balancerName, 'callers')
          }
          backendAddressPool: {
            id: resourceId('Microsoft.Network/loadBalancers/backendAddressPools', balancerName, 'gateways')
          }
          probe: {
            id: resourceId('Microsoft.Network/loadBalancers/probes', balancerName, 'readyz')
          }
        }
      }
    ]
  }
}

output subnetId string = subnet.id
output poolId string = '${balancer.id}/backendAddressPools/gateways'
output address string = balancer.properties.frontendIPConfigurations[0].properties.privateIPAddress
